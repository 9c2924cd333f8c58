extension Float {
  /// The value of an IEEE 754 binary16 pattern.
  package init(float16Bits bits: UInt16) {
    let sign = UInt32(bits >> 15) << 31
    let exponent = UInt32(bits >> 10) & 31
    let fraction = UInt32(bits) & 1023
    if exponent == 31 {
      self = Float(bitPattern: sign | 0x7f80_0000 | fraction << 13)
    } else if exponent == 0 {
      let magnitude = Float(fraction) * 0x1p-24
      self = sign == 0 ? magnitude : -magnitude
    } else {
      self = Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
  }

  /// The value of a bfloat16 pattern: the upper half of a float32.
  package init(bfloat16Bits bits: UInt16) { self = Float(bitPattern: UInt32(bits) << 16) }

  /// The nearest bfloat16 pattern, ties to even.
  package var bfloat16Bits: UInt16 {
    if isNaN { return UInt16(truncatingIfNeeded: bitPattern >> 16) | 0x40 }
    let bits = bitPattern
    return UInt16(truncatingIfNeeded: (bits &+ 0x7fff &+ (bits >> 16 & 1)) >> 16)
  }
}

extension Double {
  /// The nearest binary16 pattern, ties to even, rounded once from the double.
  package var float16Bits: UInt16 {
    let sign: UInt16 = self.sign == .minus ? 0x8000 : 0
    if isNaN { return sign | 0x7e00 }
    let size = magnitude
    if size >= 65520 { return sign | 0x7c00 }
    if size < 0x1p-14 { return sign | UInt16((size * 0x1p24).rounded(.toNearestOrEven)) }
    let power = Int(size.exponent)
    // The significand scaled to 11 bits; rounding up to 2048 carries into the exponent by itself.
    let scaled = (size.significand * 1024).rounded(.toNearestOrEven)
    return sign | UInt16((power + 14) << 10) &+ UInt16(scaled)
  }
}
