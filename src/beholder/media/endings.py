"""Endings of file names by what such files hold, in lower case and without the dot. What a file is, its content decides; these
say which files of a folder or shard to look at, and whether a missing one was meant.
"""

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
CLIPS = ("mp4", "webm", "mov", "mkv", "avi", "m4v", "mpg", "mpeg", "ts", "flv")
SOUNDS = ("wav", "flac", "mp3", "ogg", "oga", "opus", "m4a", "aif", "aiff", "au", "caf")
