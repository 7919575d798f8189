"""DIPN, DICN and the SDIC inverter with any networks of their signatures."""

import pytest
import torch
from torch import nn

from rounding import close
from sdic.editing.direction import Direction, Edit
from sdic.errors import InputError
from sdic.generators.mobile import MobileStyleGAN
from sdic.methods.base import Inverter
from sdic.methods.e4e import E4E
from sdic.methods.sdic import SDIC, EditFirstSDIC
from sdic.methods.sdic.carry_over import CarryOver, released
from sdic.methods.sdic.dicn import DICN, AffineLatents, FeatureAffine
from sdic.methods.sdic.dipn import (
    DIPN,
    DIPN_LAYOUTS,
    DiscrepancyHourglass,
    SpatialAttentionFusion,
    VolumeStem,
)
from tiny import tiny_generator

SIDE = 32
CHANNELS = 16


def small_generator():
    return tiny_generator(channels=(CHANNELS,) * 6, feature_block=3, deep=True)


class Encoder(nn.Module):
    """Latents from the mean colours of an image."""

    def __init__(self, num_styles: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, num_styles * 512)

    def forward(self, images):
        return self.linear(images.mean((2, 3))).view(len(images), -1, 512)


class AnyDIPN(nn.Module):
    def forward(self, original, initial):
        return original - initial


class AnyDICN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNELS, 4, 4)

    def forward(self, discrepancy, features, latents):
        return features + self.conv(discrepancy), 1.1 * latents


@pytest.fixture
def sdic():
    generator = small_generator()
    return SDIC(generator, Encoder(generator.num_styles), AnyDIPN(), AnyDICN())


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.rand(2, 3, 256, 256) * 2 - 1


@pytest.fixture
def edit(sdic):
    torch.manual_seed(2)
    return Edit.of(Direction("any", torch.randn(512), sdic.generator.name), 1.5)


@pytest.mark.parametrize("preset", DIPN_LAYOUTS)
@pytest.mark.parametrize("spatial_context", [True, False])
@pytest.mark.parametrize("attention", [True, False])
def test_dipn_makes_a_map_of_the_images_size(preset, spatial_context, attention):
    dipn = DIPN(preset, spatial_context=spatial_context, attention=attention).eval()
    x, y = torch.rand(2, 1, 3, SIDE, SIDE)
    with torch.no_grad():
        assert dipn(x, y).shape == (1, 3, SIDE, SIDE)
        assert not torch.equal(dipn(x, y), dipn(y, x))


@pytest.mark.parametrize("preset", DIPN_LAYOUTS)
def test_every_parameter_of_dipn_learns(preset):
    dipn = DIPN(preset)
    dipn(*torch.rand(2, 2, 3, SIDE, SIDE)).square().mean().backward()
    assert [name for name, p in dipn.named_parameters() if p.grad is None] == []


def test_paper_and_published_dipn_name_their_differences():
    paper, published = DIPN_LAYOUTS["paper"], DIPN_LAYOUTS["published"]
    differing = [f for f in vars(paper) if getattr(paper, f) != getattr(published, f)]
    assert differing == list(vars(paper))


def test_branches_share_the_way_up_in_the_published_layout_only():
    assert DIPN("published").context.up_initial is None
    assert DIPN("paper").context.up_initial is not None


def test_attention_fusion_is_equations_1_and_2():
    fusion = SpatialAttentionFusion(6, 4, flat=False, attention=True).eval()
    fusion.merge = nn.Identity()
    volume, context = torch.rand(1, 4, 3, 8, 8), torch.rand(1, 6, 8, 8)
    context_hat = fusion.context(context).unsqueeze(2).expand_as(volume)
    weights = torch.sigmoid(fusion.attention(volume + context_hat))
    close(fusion(volume, context), weights * context_hat + volume)


def test_fusion_without_attention_adds_the_context():
    fusion = SpatialAttentionFusion(6, 4, flat=True, attention=False).eval()
    fusion.merge = nn.Identity()
    volume, context = torch.rand(1, 4, 3, 8, 8), torch.rand(1, 6, 8, 8)
    close(fusion(volume, context), volume + fusion.context(context)[:, :, None])


def test_stem_equals_the_3d_convolution_that_it_stands_for():
    stem = VolumeStem(5).eval()
    nn.init.normal_(stem.bn.running_mean)
    volume = torch.rand(2, 1, 6, 9, 7)
    expected = stem.activation(stem.bn(stem.conv(volume)))
    close(stem(volume), expected)


def test_discrepancy_hourglass_keeps_the_depth():
    hourglass = DiscrepancyHourglass(DIPN_LAYOUTS["published"], False, True)
    assert hourglass(torch.rand(1, 16, 16, 24), ()).shape == (1, 16, 16, 24)


@pytest.mark.parametrize("preset", ["paper", "published"])
@pytest.mark.parametrize("num_styles", [16, 18, 23])
@pytest.mark.parametrize(("channels", "side"), [(16, 32), (16, 64), (8, 128)])
@torch.no_grad()
def test_dicn_keeps_the_shapes_of_what_it_compensates(preset, num_styles, channels, side):
    dicn = DICN(num_styles, (channels, side, side), preset).eval()
    features, latents = torch.rand(1, channels, side, side), torch.rand(1, num_styles, 512)
    enhanced, latents_ = dicn(torch.rand(1, 3, 256, 256), features, latents)
    assert enhanced.shape == features.shape
    assert latents_.shape == latents.shape


def test_dicn_is_equation_5():
    dicn = DICN(4, (8, 64, 64)).eval()
    discrepancy, features = torch.rand(1, 3, 256, 256), torch.rand(1, 8, 64, 64)
    phi = dicn.f_c2(discrepancy)
    expected = torch.sigmoid(dicn.fusion.f_c1(features + phi)) * phi + features
    enhanced, _ = dicn(discrepancy, features, torch.rand(1, 4, 512))
    close(enhanced, expected)


def test_dicn_without_attention_is_affine_in_the_features():
    dicn = DICN(4, (8, 64, 64), attention=False).eval()
    assert isinstance(dicn.fusion, FeatureAffine)
    discrepancy, latents = torch.rand(1, 3, 256, 256), torch.rand(1, 4, 512)
    a, b = torch.rand(2, 1, 8, 64, 64)
    middle, _ = dicn(discrepancy, (a + b) / 2, latents)
    ends = [dicn(discrepancy, x, latents)[0] for x in (a, b)]
    close(middle, (ends[0] + ends[1]) / 2)


def test_affine_latents_start_as_the_identity_and_are_equation_4():
    affine = AffineLatents(6)
    discrepancy, latents = torch.rand(2, 3, 256, 256), torch.randn(2, 6, 512)
    close(affine(discrepancy, latents), latents)
    nn.init.normal_(affine.f_g[-1].weight)
    theta = affine(discrepancy, torch.zeros_like(latents))
    gamma = affine(discrepancy, torch.ones_like(latents)) - theta
    close(affine(discrepancy, latents), gamma * latents + theta)


def test_unknown_presets_and_sizes_are_refused(sdic):
    with pytest.raises(InputError, match="paper, published"):
        DIPN("papper")
    with pytest.raises(InputError, match="paper, published"):
        DICN(18, preset="papper")
    with pytest.raises(InputError, match="side 16"):
        DICN(18, (512, 16, 16))
    with pytest.raises(InputError, match="paper, published"):
        SDIC(sdic.generator, sdic.encoder, sdic.dipn, sdic.dicn, "papper")


def test_inversion_is_compensated(sdic, images):
    inversion = sdic.invert(images)
    latents = sdic.encoder(images)
    close(inversion.base_latents, latents)
    close(inversion.latents, 1.1 * latents)
    features = sdic.generator.to_features(latents)
    initial = sdic.generator(latents, 256).clamp(-1, 1)
    expected, _ = sdic.dicn(images - initial, features, latents)
    close(inversion.features, expected)
    close(inversion.reconstruction, sdic.synthesize(inversion, size=256))


def test_strength_zero_gives_back_the_inversion(sdic, images, edit):
    inversion = sdic.invert(images)
    nothing = Edit.of(edit.steps[0][0], 0.0)
    assert torch.equal(sdic.synthesize(inversion, nothing), sdic.synthesize(inversion))


def test_edit_is_equation_6(sdic, images, edit):
    inversion = sdic.invert(images)
    to_features = sdic.generator.to_features
    base = inversion.base_latents
    features = inversion.features + to_features(edit.apply(base)) - to_features(base)
    expected = sdic.generator.from_features(features, edit.apply(inversion.latents))
    close(sdic.synthesize(inversion, edit), expected)


def test_gain_applies_an_edit_more_strongly(sdic, images, edit):
    inversion = sdic.invert(images)
    ((direction, strength),) = edit.steps
    stronger = sdic.synthesize(inversion, Edit.of(direction, 1.5 * strength))
    namesake = Direction(direction.name, -direction.vector, "mobile")  # a user's own, say
    gains = CarryOver(gains=((direction, 1.5), (namesake, 7.0)))
    sdic = sdic.by_rule("sdic", gains)
    close(sdic.synthesize(inversion, edit), stronger)
    inversion.features = None  # without compensation nothing has to be made up for
    plain = sdic.generator(edit.apply(inversion.latents))
    close(sdic.synthesize(inversion, edit), plain)


def test_transfer_and_release_make_the_features_of_the_edit(sdic, images, edit):
    inversion = sdic.invert(images)
    to_features = sdic.generator.to_features
    base = to_features(inversion.base_latents)
    edited = to_features(edit.apply(inversion.base_latents))
    sdic = sdic.by_rule("sdic", CarryOver(Doubled(), release=0.7))
    carried = edited + 2 * (inversion.features - base)
    features = released(carried, base, edited, 0.7)
    expected = sdic.generator.from_features(features, edit.apply(inversion.latents))
    close(sdic.synthesize(inversion, edit), expected)
    nothing = Edit.of(edit.steps[0][0], 0.0)
    assert torch.equal(sdic.synthesize(inversion, nothing), sdic.synthesize(inversion))


class Doubled(nn.Module):
    """A transfer that says the compensation twice."""

    def forward(self, compensated, base, edited):
        return edited + 2 * (compensated - base)


def test_published_edit_takes_features_of_the_compensated_latents(sdic, images, edit):
    inversion = sdic.invert(images)
    sdic = SDIC(sdic.generator, *sdic.networks.values(), edit_enhanced=True)
    to_features = sdic.generator.to_features
    edited = edit.apply(inversion.latents)
    features = inversion.features - to_features(inversion.base_latents) + to_features(edited)
    expected = sdic.generator.from_features(features, edited)
    close(sdic.synthesize(inversion, edit), expected)
    nothing = Edit.of(edit.steps[0][0], 0.0)
    assert torch.equal(sdic.synthesize(inversion, nothing), sdic.synthesize(inversion))


def test_edit_first_compares_the_photo_with_the_edited_image(sdic, images, edit):
    first = EditFirstSDIC(sdic.generator, sdic.encoder, sdic.dipn, sdic.dicn)
    inversion = first.invert(images)
    latents = edit.apply(sdic.encoder(images))
    initial = sdic.generator(latents, 256).clamp(-1, 1)
    features, enhanced = sdic.dicn(images - initial, sdic.generator.to_features(latents), latents)
    expected = sdic.generator.from_features(features, enhanced)
    close(first.synthesize(inversion, edit), expected)
    assert not torch.allclose(expected, sdic.synthesize(inversion, edit), atol=1e-3)
    nothing = Edit.of(edit.steps[0][0], 0.0)
    unedited = sdic.synthesize(sdic.invert(images))
    assert torch.equal(first.synthesize(inversion, nothing), unedited)
    assert torch.equal(first.synthesize(inversion), unedited)
    with pytest.raises(InputError, match="does not keep the photo"):
        first.synthesize(sdic.invert(images), edit)


def test_initial_reconstruction_of_the_presets(sdic, images):
    latents = sdic.encoder(images)
    features = sdic.generator.to_features(latents)
    image = sdic.generator(latents).clamp(-1, 1)
    made = SDIC(sdic.generator, *sdic.networks.values(), "published").compensate(images, latents)
    factor = sdic.generator.resolution // 256
    middle = factor // 2
    # Bilinear without antialiasing reads the four pixels around the centre of each cell.
    cells = image.unfold(2, factor, factor).unfold(3, factor, factor)
    expected = cells[..., middle - 1 : middle + 1, middle - 1 : middle + 1].mean((-1, -2))
    close(made.initial, expected)
    close(made.features, features)


def test_networks_of_the_paper_fit_a_generator_of_23_rows():
    with torch.device("meta"):
        generator = MobileStyleGAN()
        sdic = SDIC.create(generator)
    assert sdic.encoder.num_styles == generator.num_styles == 23
    assert sdic.dicn.affine.f_g[-1].out_channels == 23


def test_e4e_keeps_the_codes_of_its_encoder(images):
    generator = small_generator()
    method: Inverter = E4E(generator, Encoder(generator.num_styles))
    inversion = method.invert(images)
    assert inversion.features is None
    assert torch.equal(inversion.latents, inversion.base_latents)
    close(method.synthesize(inversion, size=256), inversion.reconstruction)


def test_images_of_another_size_are_refused(sdic):
    small = torch.zeros(1, 3, 128, 128)
    with pytest.raises(InputError, match="256"):
        sdic.invert(small)
