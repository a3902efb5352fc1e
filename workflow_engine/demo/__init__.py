"""A workflow to look at: the analysis of text documents, with a stage that waits for a batch service outside."""
