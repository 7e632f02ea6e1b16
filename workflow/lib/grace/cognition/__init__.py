"""Models of people, shown beside the language models: RSA for study 1, polite RSA for study 2."""
