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

extension Float {
  /// The float beside a double whose last bit is set, unless the double is a float itself. Rounded on to
  /// a type with at least two bits less, it gives what rounding the double once gives.
  package init(roundingToOdd value: Double) {
    let nearest = Float(value)
    let back = Double(nearest)
    if back == value || value.isNaN {
      self = nearest
    } else {
      let below = back.magnitude > value.magnitude ? nearest.bitPattern - 1 : nearest.bitPattern
      self = Float(bitPattern: below | 1)
    }
  }
}

extension Double {
  /// The double beside an integer whose last bit is set, unless the integer is a double itself. Rounded
  /// on to float32 or less, it gives what rounding the integer once gives.
  package init(roundingToOdd value: Int64) {
    self = value.magnitude < 1 << 53 ? Double(value) : Double(value.withSticky)
  }

  package init(roundingToOdd value: UInt64) {
    self = value < 1 << 53 ? Double(value) : Double(value.withSticky)
  }

  /// The nearest bfloat16 pattern, ties to even, rounded once from the double.
  package var bfloat16Bits: UInt16 { Float(roundingToOdd: self).bfloat16Bits }

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

extension FixedWidthInteger {
  /// The 11 lowest bits as one: set when any of them is.
  fileprivate var withSticky: Self { self & ~0x7ff | (self & 0x7ff == 0 ? 0 : 0x800) }
}

extension DataType {
  /// A real number rounded once to this floating-point type, ties to even.
  package func rounded(_ value: Double) -> Double {
    switch self {
    case .float32: Double(Float(value))
    case .float16: Double(Float(float16Bits: value.float16Bits))
    case .bfloat16: Double(Float(bfloat16Bits: value.bfloat16Bits))
    default: value
    }
  }
}
