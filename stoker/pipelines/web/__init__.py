"""A polite web client with limits: robots.txt, opt-outs, rates per host, sizes, deadlines, public addresses only.

``client`` fetches a URL under the rules of ``policy``. ``robots`` and ``opt_out`` read what site owners allow,
``http`` makes single requests, ``pages`` parses HTML, ``crawl`` follows the links of a site.
"""
