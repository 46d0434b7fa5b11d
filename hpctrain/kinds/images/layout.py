"""Names of the datasets of images in files of others. No torch here."""

OTHER_NAMES = {
    "image": ("image_array", "image_flux", "images", "flux", "data"),
    "ivar": ("image_ivar", "invvar", "weights"),
    "mask": ("image_mask", "masks"),
    "bands": ("image_band", "band"),
    "target_id": ("object_id", "TARGETID", "objid", "id"),
}
"""Other names for our datasets; the first ones are those of the Multimodal Universe."""
