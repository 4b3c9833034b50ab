"""Other people's T5s: what their weights are called, and how they fill a `T5Backbone`."""
