"""The parameter names of the official SDIC checkpoints, and ours; see `methods.official`."""

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
