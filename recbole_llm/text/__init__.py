"""Text and vectors: item columns to texts, texts to vectors, vectors to artifacts; no RecBole, no model."""
