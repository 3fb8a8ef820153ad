"""Real servers as black boxes: started, asked for work, stopped, and judged by what their processes leave behind."""
