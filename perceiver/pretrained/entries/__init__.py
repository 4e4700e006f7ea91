"""What the published models take and give, out of what people have: texts, pictures, frames, clips."""

from perceiver.pretrained.entries.clip import clip_entries
from perceiver.pretrained.entries.frames import frame_entries, optical_flow
from perceiver.pretrained.entries.picture import picture_entries
from perceiver.pretrained.entries.text import bytes_of, text_entries

__all__ = ["bytes_of", "clip_entries", "frame_entries", "optical_flow", "picture_entries", "text_entries"]
