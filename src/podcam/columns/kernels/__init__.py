"""The loops over packets, written once and run in two ways: plain Python, and compiled by numba.

Each module here holds plain functions over memory, numbers and the tables of `layout`; `podcam.columns.sets`
makes the compiled twins. So a function here may use only what numba knows, calls only functions of this
package, and keeps to these rules, without which the two would differ:

- every load is widened by `int64(...)`: in compiled code, bytes are 8 bits wide, overflow when shifted, and
  turn into floats when mixed with signed numbers;
- numbers stay within 63 bits, or are masked before they are shifted right or compared.
"""
