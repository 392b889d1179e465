"""Every weight of the backbone trains."""


def build(backbone):
    """Leave a `Backbone` as it is. Returns the BatchNorm layers that stay in eval mode: none."""
    return []
