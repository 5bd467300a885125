"""The page: plots and tables of an executor, live in a browser or written to a file.

All that is shown comes from :mod:`.record`, which is plain data. The other modules import bokeh,
and are loaded only when somebody wants a page.
"""
