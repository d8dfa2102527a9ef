"""How small pictures come about other than by downscaling alone: as cameras, scanners and web sites leave them."""
