import DLCTensor
import Testing

@Suite struct DimensionTests {
  @Test func canonicalForms() throws {
    let n: Size = "n"
    #expect(n + n == 2 * n)
    #expect(("H-k+1" as Size) == Size(name: "H") - Size(name: "k") + 1)
    #expect((2 * n + 4) / 2 == n + 2)
    #expect(n - n == 0)
    #expect((n * "m") == ("m" as Size) * n)
    #expect(
      ("(d+1)//2" as Size).description == "((d+1)//2)"
        || ("(d+1)//2" as Size).description == "((1+d)//2)")
  }

  @Test func parsesWhatItPrints() throws {
    for text in [
      "n", "3", "H-k+1", "(d+1)//2", "m2*((H1-s+1)//2)*((W1-s+1)//2)", "n*m-2*n+7", "-3+a",
    ] {
      let dimension = try Size(parsing: text)
      #expect(try Size(parsing: dimension.description) == dimension, "\(text)")
    }
  }

  @Test(arguments: [
    "", "n+", "(n", "1..2", "n m", "//2", String(repeating: "(", count: 300),
    "99999999999999999999",
  ])
  func refusesMalformedText(_ text: String) {
    #expect(throws: DLCError.self) { try Size(parsing: text) }
  }

  @Test func evaluationChecksItsRange() throws {
    #expect(try ("(d+1)//2" as Size).evaluate(["d": 7]) == 4)
    #expect(throws: DLCError.self) { try ("n" as Size).evaluate([:]) }
    #expect(throws: DLCError.self) { try ("n*n*n" as Size).evaluate(["n": 1 << 30]) }
    #expect(throws: DLCError.self) { try ("n//m" as Size).evaluate(["n": 4, "m": 0]) }
  }
}

@Suite struct NumberTests {
  @Test func everyHalfFloatRoundTrips() {
    for bits in UInt16.min...UInt16.max {
      let half = Float(float16Bits: bits)
      if half.isNaN { continue }
      #expect(Double(half).float16Bits == bits)
      let brain = Float(bfloat16Bits: bits)
      if !brain.isNaN { #expect(brain.bfloat16Bits == bits) }
    }
  }

  @Test func halfFloatsRoundToEven() {
    #expect(Double(2049).float16Bits == Double(2048).float16Bits)
    #expect(Double(2051).float16Bits == Double(2052).float16Bits)
    #expect(Double(65520).float16Bits == 0x7c00)
    #expect(Double(0x1p-25).float16Bits == 0)
    #expect(Double(0x1.8p-25).float16Bits == 1)
  }

  /// Known answers of the authors' Random123 distribution.
  @Test func philoxKnownAnswers() {
    let zero = Philox.block(counter: (0, 0, 0, 0), key: (0, 0))
    #expect(zero == (0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8))
    let ones = Philox.block(counter: (.max, .max, .max, .max), key: (.max, .max))
    #expect(ones == (0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd))
  }
}
