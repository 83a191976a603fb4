"""The demo: a network of two Ray clusters on this machine, with open data, real jobs and an honest account of them."""
