"""Model files of other programs, made into folders that `transformers` loads unmodified.

`gguf_file.py` reads and bounds, `llama.py` maps configuration and weights, `tokenizer.py` builds the tokenizer, and
`folder.py` writes the folder, whole or not at all.
"""
