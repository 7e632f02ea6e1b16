"""Studies, each a folder with a study.yaml: what is declared, and what is made of it."""
