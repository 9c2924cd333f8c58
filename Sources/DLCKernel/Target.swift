package import DLCTensor

/// The machine that kernels are made for.
package struct Target: Hashable, Sendable {
  /// LLVM's triple, CPU name and feature string.
  package var triple: String
  package var cpu: String
  package var features: String
  /// The widest vector, in bytes.
  package var vectorBytes: Int
  /// Vector registers.
  package var registerCount: Int

  package init(triple: String, cpu: String, features: String, vectorBytes: Int, registerCount: Int)
  {
    self.triple = triple
    self.cpu = cpu
    self.features = features
    self.vectorBytes = vectorBytes
    self.registerCount = registerCount
  }

  /// Lanes of an elementwise vector loop: as many float32 as a register holds, whatever the type.
  package var lanes: Int { vectorBytes / 4 }

  /// The register tile of contractions: rows, and columns in vectors.
  package var tile: (rows: Int, vectors: Int) { registerCount >= 32 ? (12, 2) : (6, 2) }

  /// Whether a b + c is one instruction.
  package var hasMultiplyAdd: Bool { features.contains("+fma") || isa == "neon" }

  package func panelWidth(_ type: DataType) -> Int { tile.vectors * vectorBytes / type.byteCount }

  /// The short name of the instruction set, for kernel names.
  package var isa: String {
    if triple.hasPrefix("aarch64") { return "neon" }
    return vectorBytes == 64 ? "avx512" : vectorBytes == 32 ? "avx2" : "sse2"
  }
}
