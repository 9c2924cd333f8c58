// swift-tools-version: 6.1
import PackageDescription

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// Targets from the bottom of the pipeline to the top: each names all that it may import.
/// `--explicit-target-dependency-import-check error` (Tools/test) makes the list binding.
func module(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(
    name: name + "Tests", dependencies: [.init(stringLiteral: name)] + dependencies,
    swiftSettings: settings)
}

let package = Package(
  name: "dlc",
  products: [
    .library(name: "DLC", targets: ["DLC"]),
    // Apart, because it needs libpng and libturbojpeg.
    .library(name: "DLCData", targets: ["DLCData"]),
    .executable(name: "dlc", targets: ["DLCCommandLine"]),
    .executable(name: "dlc-digits", targets: ["dlc-digits"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // Foreign code.
    .target(name: "CMachine"),
    .target(name: "CLLVM", linkerSettings: [.linkedLibrary("dl")]),
    .target(name: "CProtobufSchema", linkerSettings: [.linkedLibrary("protobuf-c")]),
    .systemLibrary(name: "CZlib"),
    .systemLibrary(name: "CXXHash"),
    .systemLibrary(name: "CPNG"),
    .systemLibrary(name: "CTurboJPEG"),
    // The pipeline.
    module("DLCTensor", []),
    module("DLCGraph", ["DLCTensor"]),
    module("DLCReference", ["DLCTensor", "DLCGraph"]),
    module("DLCAutodiff", ["DLCTensor", "DLCGraph"]),
    module("DLCPasses", ["DLCTensor", "DLCGraph", "DLCReference"]),
    module("DLCKernel", ["DLCTensor"]),
    module("DLCProgram", ["DLCTensor"]),
    module("DLCLowering", ["DLCTensor", "DLCGraph", "DLCKernel", "DLCProgram"]),
    module("DLCCodegen", ["DLCTensor", "DLCKernel", "CLLVM", "CMachine"]),
    module("DLCRuntime", ["DLCTensor", "DLCProgram", "CMachine"]),
    module("DLCFormats", ["DLCTensor", "DLCGraph", "DLCProgram", "CProtobufSchema", "CZlib", "CXXHash"]),
    module(
      "DLCCompiler",
      [
        "DLCTensor", "DLCGraph", "DLCPasses", "DLCKernel", "DLCLowering", "DLCCodegen",
        "DLCProgram", "DLCRuntime", "DLCFormats", "CMachine",
      ]),
    module(
      "DLCTraining",
      [
        "DLCTensor", "DLCGraph", "DLCReference", "DLCAutodiff", "DLCFormats", "DLCCompiler",
        "DLCRuntime",
      ]),
    module("DLCZoo", ["DLCTensor", "DLCGraph", "DLCAutodiff", "DLCFormats", "DLCTraining"]),
    module(
      "DLCONNX",
      [
        "DLCTensor", "DLCGraph", "DLCReference", "DLCAutodiff", "DLCPasses", "DLCFormats",
        "DLCCompiler", "DLCRuntime", "DLCTraining", "CProtobufSchema",
      ]),
    module("DLCData", ["DLCTensor", "DLCFormats", "CZlib", "CPNG", "CTurboJPEG"]),
    module(
      "DLC",
      [
        "DLCTensor", "DLCGraph", "DLCReference", "DLCAutodiff", "DLCCompiler", "DLCRuntime",
        "DLCFormats", "DLCTraining", "DLCZoo", "DLCONNX",
      ]
    ),
    .executableTarget(
      name: "DLCCommandLine",
      dependencies: [
        "DLCTensor", "DLCGraph", "DLCReference", "DLCAutodiff", "DLCPasses", "DLCKernel",
        "DLCLowering", "DLCCodegen", "DLCProgram", "DLCRuntime", "DLCCompiler", "DLCFormats",
        "DLCTraining", "DLCZoo", "DLCONNX", "DLCData", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], resources: [.embedInCode("Page")], swiftSettings: settings),
    .executableTarget(
      name: "dlc-digits", dependencies: ["DLC"], path: "Sources/DLCDigits", swiftSettings: settings),
    module(
      "DLCTestSupport",
      [
        "DLCTensor", "DLCGraph", "DLCReference", "DLCAutodiff", "DLCPasses", "DLCCompiler",
        "DLCCodegen", "DLCRuntime", "DLCFormats",
      ]),
    .executableTarget(
      name: "dlc-fuzz", dependencies: ["DLCTensor", "DLCTestSupport"], path: "Sources/DLCFuzz",
      swiftSettings: settings),
    // Tests.
    .testTarget(
      name: "DocumentationTests", dependencies: ["DLC", "DLCData"], swiftSettings: settings),
    tests("DLCTensor", []),
    tests("DLCGraph", ["DLCTensor", "DLCTestSupport", "DLCReference"]),
    tests("DLCAutodiff", ["DLCTensor", "DLCGraph", "DLCReference"]),
    tests("DLCPasses", ["DLCTensor", "DLCGraph", "DLCReference", "DLCTestSupport"]),
    tests(
      "DLCLowering",
      ["DLCTensor", "DLCGraph", "DLCPasses", "DLCKernel", "DLCProgram", "DLCTestSupport"]),
    tests("DLCReference", ["DLCTensor", "DLCGraph"]),
    tests("DLCKernel", ["DLCTensor"]),
    tests("DLCProgram", ["DLCTensor"]),
    tests("DLCCodegen", ["DLCTensor", "DLCKernel", "CMachine"]),
    tests("DLCRuntime", ["DLCTensor", "DLCProgram"]),
    tests("DLCFormats", ["DLCTensor", "DLCGraph", "DLCProgram", "DLCTestSupport", "DLCZoo"]),
    tests(
      "DLCONNX",
      [
        "DLCTensor", "DLCGraph", "DLCReference", "DLCFormats", "DLCCompiler", "DLCRuntime",
        "DLCTraining", "DLCTestSupport",
      ]),
    tests("DLCData", ["DLCTensor", "DLCFormats", "CTurboJPEG", "CZlib"]),
    tests(
      "DLCCompiler",
      [
        "DLCTensor", "DLCGraph", "DLCAutodiff", "DLCReference", "DLCKernel", "DLCLowering", "DLCCodegen", "DLCRuntime",
        "DLCProgram",
        "DLCFormats", "DLCData", "DLCTestSupport", "DLCZoo",
      ]),
    tests(
      "DLCZoo",
      [
        "DLCTensor", "DLCGraph", "DLCFormats", "DLCTraining", "DLCCompiler", "DLCRuntime",
        "DLCReference", "DLCTestSupport",
      ]),
    tests(
      "DLCTraining",
      [
        "DLCTensor", "DLCGraph", "DLCAutodiff", "DLCFormats", "DLCCompiler", "DLCRuntime",
        "DLCReference", "DLCTestSupport", "DLCZoo",
      ]),
  ]
)
