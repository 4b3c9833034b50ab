"""Parts of `pretrain_tiny.py`: corpus, vocabulary, teacher, batches, network, export."""
