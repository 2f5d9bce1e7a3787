"""What goes out, whether it may, the certificate and the manifest that go with it, and how anybody verifies them."""
