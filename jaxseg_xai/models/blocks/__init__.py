"""Parts of networks that several families have in common, one idea a file."""
