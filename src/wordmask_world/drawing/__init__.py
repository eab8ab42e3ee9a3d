"""The pictures of the world: scenes, things, stuff, light and captions."""
