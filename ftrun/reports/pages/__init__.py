"""How a report is shown: on the terminal, as markdown and as a web page."""
