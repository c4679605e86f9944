"""Lines of Python that answer with a saved network, for each kind of head; DIR stands for its directory."""

from __future__ import annotations

TEXT, PAIR = '"A text."', '{"text": "A text.", "text_pair": "Another."}'

# how a network is opened: imports, lines before it is used, and what a pipeline is told of it
WHOLE = ("", "", 'model="DIR"')
OWN = ("from ftrun.models.small import register\n", "register()\n", 'model="DIR"')
BESIDE = (
    "from transformers import AutoConfig, {auto_class}\n",
    'net = {auto_class}.from_pretrained("{base}", config=AutoConfig.from_pretrained("DIR"))\n'
    'net.load_adapter("DIR")\n',
    'model=net, {reader}="DIR"',
)
SHARED = (  # of layers that share matrices, which transformers' own load_adapter refuses
    f"from peft import PeftModel\n{BESIDE[0]}",
    BESIDE[1].replace('net.load_adapter("DIR")', 'PeftModel.from_pretrained(net, "DIR")  # changes net'),
    BESIDE[2],
)
ADAPTERS = (
    "from pathlib import Path\n\nfrom ftrun.models.reload import reload\n",
    'net = reload(Path("DIR"), "{auto_class}")\n',
    'model=net, {reader}="DIR"',
)
OPENED = 'net = {auto_class}.from_pretrained("DIR")\n'  # of the first two, where no pipeline opens it

PIPELINE = """\
{imports}from transformers import pipeline

{setup}use = pipeline("{pipeline}", {model}{options})
{answer}"""
LABELS = "print(use({text}, truncation=True, max_length={length}, top_k=None))"
SEVERAL = """\
found = use({text}, truncation=True, max_length={length}, top_k=None)
print([each["label"] for each in found if each["score"] >= {threshold:g}])"""
NUMBER = """\
config, (found,) = use.model.config, use({text}, truncation=True, max_length={length}, top_k=None)
print(found["score"] * config.target_scale + config.target_mean)"""
OF_TEXT = {"regression": NUMBER, "multi_label_classification": SEVERAL}  # by problem_type
TAGS = 'print(use("Ada Lovelace lived in London."))'
MASK = 'print(use(f"The sky is {{use.tokenizer.mask_token}}."))'
NEXT = """\
prompt = "{begin}Once upon a time"
print(use(prompt, max_new_tokens=40, do_sample=False, add_special_tokens=False)[0]["generated_text"])"""
IMAGE = 'print(use("image.png", top_k={labels}))'
ANSWERS = {
    "token-classification": TAGS,
    "fill-mask": MASK,
    "text-generation": NEXT,
    "image-classification": IMAGE,
}

SPAN = """\
import torch
{imports}from transformers import AutoModelForQuestionAnswering, AutoTokenizer

{setup}tokenizer = AutoTokenizer.from_pretrained("DIR")
question, context = "Who wrote it?", "Ada Lovelace wrote it in 1843."
inputs = tokenizer(question, context, truncation="only_second", max_length={length}, return_tensors="pt")
found = net.eval()(**inputs)
inside = torch.tensor([part == 1 for part in inputs.sequence_ids(0)])
spans = (inside[:, None] & inside).triu().tril({further})  # ends at or after their start, and not too far
scores = (found.start_logits[0][:, None] + found.end_logits[0]).masked_fill(~spans, -torch.inf)
start, end = divmod(scores.argmax().item(), len(inside))
print(context[inputs.token_to_chars(start).start : inputs.token_to_chars(end).end])"""

# of pooled networks and of images that no pipeline reads
SENTENCES = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("DIR")
config, texts = model[0].auto_model.config, ["A text."]
logits = model.encode(texts)  # (texts, outputs)
{labels_of}"""
SENTENCES_BESIDE = """\
from sentence_transformers import SentenceTransformer, models
from transformers import AutoConfig

network = models.Transformer("{base}", max_seq_length={longest}, tokenizer_name_or_path="DIR")
network.auto_model.load_adapter("DIR")
head = models.Pooling.load("DIR/1_Pooling"), models.Dense.load("DIR/2_Dense")
model = SentenceTransformer(modules=[network, *head])
config, texts = AutoConfig.from_pretrained("DIR"), ["A text."]
logits = model.encode(texts)  # (texts, outputs)
{labels_of}"""
SENTENCES_SHARED = SENTENCES_BESIDE.replace(
    "from sentence", "from peft import PeftModel\nfrom sentence", 1
).replace('network.auto_model.load_adapter("DIR")', 'PeftModel.from_pretrained(network.auto_model, "DIR")')
POOLED_ADAPTERS = """\
from pathlib import Path

from transformers import AutoTokenizer

from ftrun.models.reload import reload

net, tokenizer = reload(Path("DIR"), "{auto_class}"), AutoTokenizer.from_pretrained("DIR")
config, texts = net.config, ["A text."]
how = {{"padding": True, "truncation": True, "max_length": {length}, "return_tensors": "pt"}}
logits = net(**tokenizer(texts, **how)).logits.detach().numpy()  # (texts, outputs)
{labels_of}"""
LABELS_OF = {  # of logits, by problem_type
    "regression": "scores = logits[:, 0] * config.target_scale + config.target_mean",
    "multi_label_classification": "labels = [[config.id2label[i] for i in (row >= {cut:.7g}).nonzero()[0]]"
    " for row in logits]",
}
LABEL_OF = "labels = [config.id2label[i] for i in logits.argmax(1)]"
PIXELS = """\
import torch
{imports}from transformers import {auto_class}

{setup}pixels = torch.rand(1, {channels}, {size}, {size})  # (images, channels, height, width), from 0 to 1
print(net.config.id2label[net.eval()(pixel_values=pixels).logits[0].argmax().item()])"""
GREY = """\
{imports}from PIL import Image
from transformers import AutoImageProcessor, {auto_class}

{setup}image, processor = Image.open("image.png").convert("L"), AutoImageProcessor.from_pretrained("DIR")
inputs = processor(image, return_tensors="pt")
print(net.config.id2label[net.eval()(**inputs).logits[0].argmax().item()])"""
FEATURES = """\
import torch
{imports}from PIL import Image
from transformers import AutoImageProcessor, {auto_class}

{setup}net.classifier = torch.nn.Identity()  # the features, of which the projection was trained
image, processor = Image.open("image.png").convert("{mode}"), AutoImageProcessor.from_pretrained("DIR")
inputs = processor(image, return_tensors="pt")
features = net.eval()(**inputs).logits.flatten(1)  # (images, width)"""
