// The visitor's own picture came, or the picture was removed: the address says so, for a link and for a reload.
(own, picture) => (picture ? window.msnAddress.keep("example", own) : window.msnAddress.drop("example"))
