import DLCKernel
import DLCTensor
import Testing

@Suite struct TargetTests {
  static func target(
    _ features: String, _ triple: String = "x86_64-pc-linux-gnu", cpu: String = "generic"
  )
    -> Target
  { Target(triple: triple, cpu: cpu, featureText: features) }

  @Test func vectorsFollowFromFeatures() {
    let cases: [(Target, bytes: Int, registers: Int, isa: String, fused: Bool)] = [
      (Self.target("+sse4.1,+sse4.2"), 16, 16, "sse2", false),
      (Self.target("+avx2,+fma"), 32, 16, "avx2", true),
      (Self.target("+avx2,-fma"), 32, 16, "avx2", false),
      (Self.target("+fma,+avx2,+avx512f"), 32, 16, "avx2", true),
      (Self.target("+fma,+avx512f,+avx512vl,+avx512bw,+avx512dq"), 64, 32, "avx512", true),
      (Self.target("", "aarch64-unknown-linux-gnu"), 16, 32, "neon", true),
    ]
    for (target, bytes, registers, isa, fused) in cases {
      #expect(target.vectorBytes == bytes && target.registerCount == registers)
      #expect(target.isa == isa && target.hasMultiplyAdd == fused)
      #expect(target.lanes * 4 == bytes)
      // The sums of a register tile and its factors stay in registers.
      let tile = target.tile
      let used = tile.rows * tile.vectors + tile.vectors
      #expect(used < registers)
    }
  }

  /// A feature that begins like another one is not that one.
  @Test func featuresAreWholeWords() {
    let target = Self.target("+avx512fp16,+fma4")
    #expect(target.features == [.avx512fp16])
    #expect(!target.hasMultiplyAdd)
  }

  @Test func cachesGrow() {
    for cpu in ["generic", "znver3", "znver5", "sapphirerapids", "skylake", "neoverse-n1"] {
      let caches = Target.Caches(cpu: cpu)
      #expect(caches.l1 >= 1 << 14)
      #expect(caches.l2 > caches.l1 && caches.l3 >= caches.l2)
    }
  }
}
