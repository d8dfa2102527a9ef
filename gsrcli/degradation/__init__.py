"""How small pictures come about: by the papers' shrinking alone, or as cameras, scanners and web sites leave them."""

from gsrcli.degradation.photo import degrade
from gsrcli.degradation.shrinking import Shrinking, imresize, shrink

__all__ = ["Shrinking", "degrade", "imresize", "shrink"]
