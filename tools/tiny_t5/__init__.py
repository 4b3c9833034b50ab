"""Parts of `pretrain`: corpus, vocabulary, teacher, batches, network, export."""
