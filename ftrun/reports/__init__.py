"""Finished runs summarised, compared, tested and plotted; reads run directories, never imports torch."""
