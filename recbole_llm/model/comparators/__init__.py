"""What papers on language models in recommendation are compared with: each small, on the same road as all others."""
