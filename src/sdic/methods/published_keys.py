"""The parameter names of the official SDIC and e4e checkpoints, and ours.

An official name is the module's prefix (`encoder.`, `DIP.`, `SAF.`, `decoder.`) and a path; each
rule replaces the beginning of a path by ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from sdic.errors import WeightsError

ENCODER_RULES = {
    "input_layer.": "trunk.input_layer.",
    "body.": "trunk.body.",
    "styles.": "styles.",
    "latlayer1.": "lateral2.",
    "latlayer2.": "lateral1.",
}

DIPN_RULES = {
    "feature1.fe": "context.down_original.conv",
    "feature2.fe": "context.down_initial.conv",
    "feature_up.deconv8_4.conv1.": "context.up_original.up3.up.",
    "feature_up.deconv8_4.conv2.": "context.up_original.up3.merge.",
    "feature_up.deconv4_2.conv1.": "context.up_original.up2.up.",
    "feature_up.deconv4_2.conv2.": "context.up_original.up2.merge.",
    "feature_up.deconv2_1.conv1.": "context.up_original.up1.up.",
    "feature_up.deconv2_1.conv2.": "context.up_original.up1.merge.",
    "feature_up.conv4.": "context.up_original.merge.",
    "conv.": "context.up_original.output.0.",
    "desc.": "context.up_original.output.1.",
    "corr_stem.": "discrepancy.stem.",
    "hourglass_fusion.conv1.": "discrepancy.downs.0.",
    "hourglass_fusion.conv2.": "discrepancy.downs.1.",
    "hourglass_fusion.conv3.": "discrepancy.downs.2.",
    "hourglass_fusion.CGF_32.semantic.": "discrepancy.fusions.0.context.",
    "hourglass_fusion.CGF_32.att.": "discrepancy.fusions.0.attention.",
    "hourglass_fusion.CGF_32.agg.": "discrepancy.fusions.0.merge.",
    "hourglass_fusion.CGF_16.semantic.": "discrepancy.fusions.1.context.",
    "hourglass_fusion.CGF_16.att.": "discrepancy.fusions.1.attention.",
    "hourglass_fusion.CGF_16.agg.": "discrepancy.fusions.1.merge.",
    "hourglass_fusion.CGF_8.semantic.": "discrepancy.fusions.2.context.",
    "hourglass_fusion.CGF_8.att.": "discrepancy.fusions.2.attention.",
    "hourglass_fusion.CGF_8.agg.": "discrepancy.fusions.2.merge.",
    "hourglass_fusion.conv3_up.": "discrepancy.ups.0.",
    "hourglass_fusion.conv2_up.": "discrepancy.ups.1.",
    "hourglass_fusion.conv1_up.conv.": "discrepancy.ups.2.conv.",
    "hourglass_fusion.agg_0.": "discrepancy.merges.0.",
    "hourglass_fusion.agg_1.": "discrepancy.merges.1.",
    "rgb1.": "to_map.",
    "rgb.0.": "to_map.4.",
    "rgb.1.": "to_map.5.",
    "rgb.2.": "to_map.6.",
}

DICN_RULES = {
    "condition_shift3.": "affine.code_map.",
    "aff1d.sen.": "affine.rows.",
    "aff1d.att.": "affine.f_g.",
    "aff1d.att2.": "affine.f_t.",
    "conv_layer1.": "f_c2.0.",
    "semantic.0.": "f_c2.1.",
    "semantic.1.": "f_c2.2.",
    "semantic.2.": "f_c2.3.",
    "semantic.3.": "f_c2.4.",
    "att.": "fusion.f_c1.",
}

# What the published forward pass never reaches, though its files contain it.
DIPN_UNUSED = (
    "stem_2.",
    "stem_4.",
    "spx.",
    "spx_2.",
    "spx_4.",
    "semantic.",
    "agg.",
    "hourglass_fusion.conv1_up.bn.",
)
DICN_UNUSED = ("aff1.", "aff2.", "conv1.", "aff1d.agg.")

# Networks of the training losses, which an official file carries along.
LOSS_PREFIXES = ("id_loss.", "lpips_loss.")


def official_key(key: str, rules: Mapping[str, str]) -> str:
    """The official path of one of our parameters, by the rule with the longest beginning."""
    fitting = [(ours, official) for official, ours in rules.items() if key.startswith(ours)]
    ours, official = max(fitting, key=lambda rule: len(rule[0]), default=("", ""))
    return official + key[len(ours) :]


def rename(
    state_dict: Mapping[str, Tensor],
    keys: Iterable[str],
    rules: Mapping[str, str],
    unused: Iterable[str],
    what: str,
) -> tuple[dict[str, Tensor], list[str]]:
    """Give the tensors of one official module our names.

    Args:
        state_dict: official paths without the module's prefix, and their tensors.
        keys: our names of all parameters and buffers that the module needs.
        rules: the rule table of the module.
        unused: prefixes of official paths to leave out.
        what: the module of the file, for errors.

    Returns:
        The tensors by our names, and the official paths that were left out.

    Raises:
        WeightsError: official paths are missing or in surplus; it names them.
    """
    ours = {official_key(key, rules): key for key in keys}
    surplus = [key for key in state_dict if key not in ours]
    dropped = [key for key in surplus if key.startswith(tuple(unused))]
    surplus = [key for key in surplus if key not in set(dropped)]
    missing = [key for key in ours if key not in state_dict]
    problems = [
        f"{len(names)} {kind}: {', '.join(names)}"
        for kind, names in (("missing", missing), ("surplus", surplus))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{what} is not the published network; {'; '.join(problems)}. "
            "Use a complete, unchanged official file."
        )
    return {ours[key]: state_dict[key] for key in ours}, dropped
