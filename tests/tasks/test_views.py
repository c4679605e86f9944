"""Views of pictures: every strength does what it says, and what is drawn belongs to the picture alone."""

import pytest
import torch

from ftrun.errors import ConfigError
from ftrun.tasks.contrastive.views import DRAWS, Views, draw

pytestmark = pytest.mark.images


def views(**changes):
    plain = {
        "crop": None, "flip": 0.0, "jitter": [0.0, 0.0, 0.0, 0.0], "jitter_share": 1.0, "grey": 0.0,
        "blur": 0.0, "blur_sigma": [0.1, 2.0],
    }  # fmt: skip
    return Views(**{**plain, **changes})


PIXELS = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
DRAWN = draw(range(6), 2)[:, 0]


def test_a_picture_s_draws_are_its_own_whatever_the_batch():
    assert DRAWN.shape == (6, DRAWS) and 0 <= DRAWN.min() and DRAWN.max() < 1
    assert torch.equal(draw([4, 2], 2), draw(range(6), 2)[[4, 2]])
    whole = views(
        crop=[0.2, 1.0], flip=0.5, jitter=[0.8, 0.8, 0.8, 0.2], grey=0.2, blur=0.5, jitter_share=0.8
    )
    every = whole.shown(PIXELS, DRAWN)
    assert every.shape == PIXELS.shape and 0 <= every.min() and every.max() <= 1
    for row in range(6):
        alone = whole.shown(PIXELS[row : row + 1], DRAWN[row : row + 1])
        torch.testing.assert_close(alone[0], every[row], rtol=0, atol=1e-5)


def test_without_strengths_a_view_is_the_picture():
    assert torch.equal(views().shown(PIXELS, DRAWN), PIXELS)


def test_mirrored_and_grey():
    assert torch.equal(views(flip=1.0).shown(PIXELS, DRAWN), PIXELS.flip(-1))
    grey = views(grey=1.0).shown(PIXELS, DRAWN)
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])
    half = views(flip=0.5).shown(PIXELS, DRAWN)
    mirrored = [torch.equal(half[row], PIXELS[row].flip(-1)) for row in range(6)]
    assert mirrored == (DRAWN[:, 4] < 0.5).tolist() and 0 < sum(mirrored) < 6


def test_a_crop_shows_a_part_of_the_area_and_stays_in_the_picture():
    """A picture whose pixels say where they are: the view's corners are those of the part."""
    ramp = torch.linspace(0, 1, 64)
    place = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64)])  # x, y
    place = place.expand(500, 2, 64, 64)
    shown = views(crop=[0.2, 0.5]).shown(place, draw(range(500), 1)[:, 0])
    wide = shown[:, 0, 0, -1] - shown[:, 0, 0, 0]
    high = shown[:, 1, -1, 0] - shown[:, 1, 0, 0]
    area, ratio = wide * high, wide / high
    assert 0.195 < area.min() < 0.22 and 0.48 < area.max() < 0.505
    assert 0.745 < ratio.min() < 0.78 and 1.29 < ratio.max() < 1.34
    assert shown[:, 0, 0, 0].min() < 0.02 and shown[:, 0, 0, -1].max() > 0.98


def test_colours_change_by_what_was_drawn():
    drawn = torch.full((6, DRAWS), 0.5)
    colours = views(jitter=[0.4, 0.4, 0.4, 0.1])
    torch.testing.assert_close(colours.shown(PIXELS, drawn), PIXELS, rtol=0, atol=1e-5)  # half is no change
    drawn[:, 6] = 0.25  # brightness 1 - 0.4 / 2
    torch.testing.assert_close(views(jitter=[0.4, 0, 0, 0]).shown(PIXELS, drawn), 0.8 * PIXELS)
    drawn = torch.full((6, DRAWS), 0.5)
    drawn[:, 7] = 0.0  # contrast 0: the mean of the grey picture
    flat = views(jitter=[0, 1.0, 0, 0]).shown(PIXELS, drawn)
    assert flat.flatten(1).std(1).max() < 1e-5
    none = views(jitter=[0.4, 0.4, 0.4, 0.1], jitter_share=0.0)
    assert torch.equal(none.shown(PIXELS, DRAWN), PIXELS)


def test_a_blur_smooths_more_the_wider_it_is():
    drawn = torch.zeros(6, DRAWS)
    rough = []
    for width in (0.1, 0.5, 2.0):
        smooth = views(blur=1.0, blur_sigma=[width, width]).shown(PIXELS, drawn)
        rough.append(float((smooth[..., 1:] - smooth[..., :-1]).abs().mean()))
    assert rough[0] > 1.2 * rough[1] > 1.5 * rough[2]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"crop": [0.5, 0.2]}, "task.crop is two shares of the area, low and high"),
        ({"crop": [0.0, 1.0]}, "task.crop is two shares"),
        ({"flip": 1.5}, "task.flip is a share from 0 to 1, not 1.5"),
        ({"jitter": [0.1, 0.1, 0.1, 0.6]}, "hue \\(at most 0.5\\)"),
        ({"blur_sigma": [2.0, 1.0]}, "task.blur_sigma is two widths"),
    ],
)
def test_strengths_that_cannot_be_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        views(**changes)


def test_grey_pictures_have_no_saturation_and_small_ones_no_small_crops():
    with pytest.raises(ConfigError, match="have no saturation and no hue; possible"):
        views(jitter=[0.4, 0.4, 0.4, 0.0]).refuse(1, 28)
    with pytest.raises(ConfigError, match="crops less than 2 pixels from images of 8 x 8"):
        views(crop=[0.05, 1.0]).refuse(3, 8)
    views(crop=[0.2, 1.0]).refuse(3, 8)
