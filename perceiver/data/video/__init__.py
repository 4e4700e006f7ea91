"""Video with sound: spans of one clock, and clips out of files."""
