"""How a task flows: lease, admit, dispatch, settle. Sees ports only."""
