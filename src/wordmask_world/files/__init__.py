"""Files of the world: folders, tars, training arrays, contact sheets."""
