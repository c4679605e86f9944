"""Baselines that fine-tuning must beat: a constant answer, the most frequent tag, regressions.

One of these is on TF-IDF of the words, the other on the features of the network before it is trained.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

from ftrun.data.text.words import words

if TYPE_CHECKING:
    from collections.abc import Sequence

FITTED = 8_000_000  # characters of training texts that words are counted in, about two seconds on one core
SCORED = 4_000_000  # characters of each scored split
FEATURES = 20_000  # words, the most frequent ones
WORK = 300_000  # training rows times classes in the regression
ITERATIONS = 50
STRENGTHS = (1.0, 10.0, 100.0)  # C of scikit-learn, of which several labels have the best on validation rows

MAJORITY, WORDS, FEATURES_OF = "majority", "tfidf", "features"  # the names of the baselines
MEAN, NOTHING, TAGS = "mean", "nothing", "tags"
NAMES = {
    MAJORITY: "most frequent label",
    MEAN: "training mean",
    NOTHING: "empty answer",
    TAGS: "most frequent tag",
    WORDS: "TF-IDF",
    FEATURES_OF: "frozen features",
}  # in a table
ALWAYS = {  # those that answer every row alike
    MAJORITY: "always answering the most frequent label",
    MEAN: "always answering the mean of the training rows",
    NOTHING: "always giving the empty answer",
}
TITLES = {
    MAJORITY: "always the most frequent label",
    MEAN: "always the mean of the training rows",
    NOTHING: "always the empty answer",
    TAGS: "the most frequent tag of each word",
    WORDS: "TF-IDF and regression",
    FEATURES_OF: "regression on the frozen network's features",
}
SUBJECTS = NAMES | {TAGS: TITLES[TAGS]}  # in a sentence


def majority(labels: Sequence[str] | Counter[str], count: int) -> list[dict[str, Any]]:
    """The most frequent training label for every row, with its share as the probability."""
    counts = Counter(labels)
    name, times = counts.most_common(1)[0]
    return [{"answer": name, "probability": times / counts.total()}] * count


def majority_of_several(labels: Sequence[list[str]] | Counter[str], count: int) -> list[dict[str, Any]]:
    """The same where a row may have several labels."""
    counts = labels if isinstance(labels, Counter) else Counter(name for names in labels for name in names)
    return [{"answer": [counts.most_common(1)[0][0]]}] * count


class UsualTags:
    """For each word the tag that it most often has in training, O for a word that is not there.

    The classic baseline of tagging (Charniak et al. 1993). Of tags that are as frequent it is the first met.
    """

    def __init__(self, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> None:
        counts: dict[str, Counter[str]] = {}
        for tokens, own in zip(sentences, tags, strict=True):
            for token, tag in zip(tokens, own, strict=True):
                counts.setdefault(token, Counter())[tag] += 1
        self.usual = {token: found.most_common(1)[0][0] for token, found in counts.items()}

    def tags(self, sentence: Sequence[str]) -> list[str]:
        return [self.usual.get(token, "O") for token in sentence]


def constant_score(card: dict[str, Any], metric: str) -> tuple[float | None, str]:
    """What a constant answer scores by the baselines of a data card, and its name; None where there is none.

    `metric` has the prefix of its split.
    """
    for name in ALWAYS:
        if (found := card.get(name, {}).get(metric)) is not None:
            return found, NAMES[name]
    return None, ""


class Words:
    """TF-IDF and logistic regression with scikit-learn's defaults, on as much as takes a few seconds.

    A function of texts and labels alone; `notes` says where it stopped short, `fits` whether there is a word
    and more than one label at all.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[Any]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.notes: list[str] = []
        rows = self.part(texts, FITTED, WORK // self.kinds(labels), "fitted")
        chosen = [labels[row] for row in rows]
        self.vectorizer = TfidfVectorizer(max_features=FEATURES, tokenizer=words, token_pattern=None)
        self.fits = self.differ(chosen) and any(words(texts[row]) for row in rows)
        if not self.fits:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are limited on purpose
            self.fit(self.vectorizer.fit_transform([texts[row] for row in rows]), chosen)
        if len(self.vectorizer.vocabulary_) == FEATURES:
            self.notes.append(f"the {FEATURES:,} most frequent words")

    def kinds(self, labels: Sequence[Any]) -> int:
        return len(set(labels))

    def differ(self, labels: Sequence[Any]) -> bool:
        return len(set(labels)) > 1

    def fit(self, features: Any, labels: Sequence[Any]) -> None:
        from sklearn.linear_model import LogisticRegression

        self.regression = LogisticRegression(max_iter=ITERATIONS).fit(features, labels)

    def settle(self, texts: Sequence[str], labels: Sequence[Any]) -> None:
        """Choose on validation rows what is not scikit-learn's default: here nothing."""

    def answers(self, texts: Sequence[str], split: str) -> tuple[list[int], list[dict[str, Any]]]:
        """The rows answered, all or as many as are read in the time, and an answer for each."""
        rows = self.part(texts, SCORED, len(texts), f"scored on {split}:")
        return rows, self.answered(self.vectorizer.transform([texts[row] for row in rows]))

    def answered(self, features: Any) -> list[dict[str, Any]]:
        shares, names = self.regression.predict_proba(features), self.regression.classes_
        return [{"answer": str(names[share.argmax()]), "probability": float(share.max())} for share in shares]

    def part(self, texts: Sequence[str], characters: int, most: int, what: str) -> list[int]:
        """Rows, in random order and then sorted, that hold no more than these characters together."""
        order = list(range(len(texts)))
        random.Random(0).shuffle(order)
        chosen: list[int] = []
        read = 0
        for row in order[:most]:
            read += len(texts[row])
            if read > characters and chosen:
                break
            chosen.append(row)
        note = f"{what} {len(chosen):,} of {len(texts):,} rows"
        if len(chosen) < len(texts) and note not in self.notes:
            self.notes.append(note)
        return sorted(chosen)


class SeveralWords(Words):
    """The same where a row may have several labels: for each a regression of its own, yes or no.

    With scikit-learn's C=1 hardly a probability of a rare label comes to the threshold, so C is chosen.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[list[str]], threshold: float) -> None:
        self.threshold = threshold
        super().__init__(texts, labels)

    def kinds(self, labels: Sequence[Any]) -> int:
        return max(1, len({name for names in labels for name in names}))

    def differ(self, labels: Sequence[Any]) -> bool:
        return any(0 < count < len(labels) for count in self.counts(labels).values())

    def counts(self, labels: Sequence[Any]) -> Counter[str]:
        return Counter(name for names in labels for name in names)

    def fit(self, features: Any, labels: Sequence[Any]) -> None:
        counts = self.counts(labels)
        self.always = [name for name, count in counts.items() if count == len(labels)]
        given = {
            name: [name in names for names in labels] for name, count in counts.items() if count < len(labels)
        }
        self.fitted = features, given
        self.regressions = self.regressed(STRENGTHS[0])

    def regressed(self, strength: float) -> dict[str, Any]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        features, given = self.fitted
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # as above
            return {
                name: LogisticRegression(C=strength, max_iter=ITERATIONS).fit(features, answers)
                for name, answers in given.items()
            }

    def settle(self, texts: Sequence[str], labels: Sequence[list[str]]) -> None:
        """The strength with the best micro F1 on validation rows."""

        def score(regressions: dict[str, Any]) -> float:
            self.regressions = regressions
            rows, answers = self.answers(texts, "validation")
            return micro_f1([labels[row] for row in rows], answers)

        self.regressions = max([self.regressions, *map(self.regressed, STRENGTHS[1:])], key=score)

    def answered(self, features: Any) -> list[dict[str, Any]]:
        shares = {name: each.predict_proba(features)[:, 1] for name, each in self.regressions.items()}
        return [
            {"answer": [*self.always, *(name for name in shares if shares[name][row] >= self.threshold)]}
            for row in range(features.shape[0])
        ]


def micro_f1(labels: Sequence[list[str]], answers: Sequence[dict[str, Any]]) -> float:
    """Twice the labels that were found, over those that were given and those that were answered."""
    pairs = [(set(names), set(each["answer"])) for names, each in zip(labels, answers, strict=True)]
    total = sum(len(names) + len(answer) for names, answer in pairs)
    return 2 * sum(len(names & answer) for names, answer in pairs) / total if total else 0.0


class NumberWords(Words):
    """The same for numbers: ridge regression with scikit-learn's defaults."""

    def kinds(self, labels: Sequence[Any]) -> int:
        return 1

    def fit(self, features: Any, labels: Sequence[Any]) -> None:
        from sklearn.linear_model import Ridge

        self.regression = Ridge().fit(features, labels)

    def answered(self, features: Any) -> list[dict[str, Any]]:
        return [{"answer": float(number)} for number in self.regression.predict(features)]
