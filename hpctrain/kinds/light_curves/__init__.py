"""Light curves as a kind of data: brightness at irregular times, in several bands, with errors and gaps."""
