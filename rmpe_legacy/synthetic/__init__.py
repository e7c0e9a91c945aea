"""The drawn world: images of people whose joints are known exactly."""
