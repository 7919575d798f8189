"""Faces, aligned as FFHQ's are."""

from __future__ import annotations

from sdic.domains.base import Domain, Focus

FACES = Domain(
    name="faces",
    subject="face",
    size=(256, 256),
    focus=Focus(centre=(0.5, 0.56), radii=(0.3, 0.36), softness=0.15),
    detector="mtcnn",
    detectors=("mtcnn", "dlib"),
    recogniser="fr-feature",
    identity_metrics=("id_dlib", "id_faceres", "id_fr"),
    identity_crop=((35, 223), (32, 220)),
    edits=("age", "smile", "yaw"),
)
