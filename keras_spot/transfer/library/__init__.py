"""A folder of prompts that know where they come from, to retrieve a source for a new task.

    LIBRARY/glue%2Fmnli/entry.json     name, shapes, provenance, hash of every file
                        prompt.npz     the best prompt [P, H], in the form of `prompts`
                        embedding.npy  the task embedding, an early checkpoint, if there is one
                        summaries.npy  what the two cosines need of the embedding, float32 [2, H]

An entry is a folder that takes its name when it is complete, and is a `prompt_init`. Nothing
else is kept: no index that two writers could spoil. Listing reads `entry.json` alone, ranking by
a cosine adds `summaries.npy`, a few kilobytes an entry. What starts with a dot is being written,
or was left by a process that was killed on the way, and counts for nothing.
"""

from keras_spot.transfer.library.entries import Entry, folder_name
from keras_spot.transfer.library.folder import EMBEDDING_STEP, PromptLibrary

__all__ = ["EMBEDDING_STEP", "Entry", "PromptLibrary", "folder_name"]
