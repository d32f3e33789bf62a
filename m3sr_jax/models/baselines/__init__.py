"""Published networks to compare with M3SR, called in the same way: (B, H, W, 3) RGB in [0, 1] → (B, H, W, S).

Written from descriptions of what they compute and checked against numbers from their releases.
"""
