"""Integer nodes and the values between them: what a net computes, bit for bit."""
