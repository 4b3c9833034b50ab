"""The numbers of `model/plain` faster, on one CPU behind a frozen backbone; see `forward`.

Private: it promises nothing and may be deleted whole. Only `model/kernels` imports it.
"""
