"""The plots of a comparison, as PNG files that are read on a page, on a phone and on paper."""
