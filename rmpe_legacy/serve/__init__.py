"""``rmpe serve``: a page on this computer that shows what RMPE does with a photo, step by step."""
