"""Names by brightness: an example of a method that another package brings to `wordmask`."""
