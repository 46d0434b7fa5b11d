"""The model card of a run in Markdown: what was measured and recorded, and what the profile says about its use."""
