"""Questions to language models and their answers; nothing here knows RecBole or a model of ours."""
