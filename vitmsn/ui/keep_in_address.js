// Write a control's value into the address, so that a link opens the page as it is now.
(name, value) => window.msnAddress?.keep(name, value)
