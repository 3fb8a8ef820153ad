"""No addresses: a page that needs some shows them."""

urlpatterns = []
