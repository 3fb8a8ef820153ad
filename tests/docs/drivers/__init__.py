"""For each page the tests that use what it shows; copied into the page's project as `shop/test_page.py`."""
