"""The TFLite schema as LiteRT 2.3.0 has it, in short: made by tools/make_schema.py.

Source: google-ai-edge/LiteRT, tflite/converter/schema/schema.fbs (Apache-2.0).
TABLES: table -> its fields in the order of their slots, each `name:type` and `=default` where that
is not 0. A type is a scalar, `string`, a table, `[element]` or `|union`, whose number is in the
field before it; `-` is a slot that no longer means anything.
ENUMS: enum or union -> its names, numbered from 0 unless `=number` says otherwise.
"""

from __future__ import annotations

TABLES: dict[str, str] = {
    "ATan2Options": "",
    "AbsOptions": "",
    "AddNOptions": "",
    "AddOptions": "fusedActivationFunction:int8 potScaleInt16:bool=1",
    "ArgMaxOptions": "outputType:int8",
    "ArgMinOptions": "outputType:int8",
    "AssignVariableOptions": "",
    "BatchMatMulOptions": "adjX:bool adjY:bool asymmetricQuantizeInputs:bool",
    "BatchToSpaceNDOptions": "",
    "BidirectionalSequenceLSTMOptions": """
        fusedActivationFunction:int8 cellClip:float32 projClip:float32 mergeOutputs:bool
        timeMajor:bool=1 asymmetricQuantizeInputs:bool
    """,
    "BidirectionalSequenceRNNOptions": """
        timeMajor:bool fusedActivationFunction:int8 mergeOutputs:bool
        asymmetricQuantizeInputs:bool
    """,
    "BitcastOptions": "",
    "BitwiseXorOptions": "",
    "BlockwiseQuantization": "scales:int32 zeroPoints:int32 blockSize:int32 blockShape:[int32]",
    "BroadcastToOptions": "",
    "BucketizeOptions": "boundaries:[float32]",
    "Buffer": "data:[uint8] offset:uint64 size:uint64",
    "CallOnceOptions": "initSubgraphIndex:int32",
    "CallOptions": "subgraph:uint32",
    "CastOptions": "inDataType:int8 outDataType:int8",
    "ConcatEmbeddingsOptions": """
        numChannels:int32 numColumnsPerChannel:[int32] embeddingDimPerChannel:[int32]
    """,
    "ConcatenationOptions": "axis:int32 fusedActivationFunction:int8",
    "Conv2DOptions": """
        padding:int8 strideW:int32 strideH:int32 fusedActivationFunction:int8
        dilationWFactor:int32=1 dilationHFactor:int32=1 quantizedBiasType:int8
    """,
    "Conv3DOptions": """
        padding:int8 strideD:int32 strideW:int32 strideH:int32 fusedActivationFunction:int8
        dilationDFactor:int32=1 dilationWFactor:int32=1 dilationHFactor:int32=1
    """,
    "CosOptions": "",
    "CumsumOptions": "exclusive:bool reverse:bool",
    "CustomQuantization": "custom:[uint8]",
    "DensifyOptions": "",
    "DepthToSpaceOptions": "blockSize:int32",
    "DepthwiseConv2DOptions": """
        padding:int8 strideW:int32 strideH:int32 depthMultiplier:int32
        fusedActivationFunction:int8 dilationWFactor:int32=1 dilationHFactor:int32=1
    """,
    "DequantizeOptions": "",
    "DilateOptions": "",
    "DimensionMetadata": """
        format:int8 denseSize:int32 arraySegmentsType:uint8 arraySegments:|SparseIndexVector
        arrayIndicesType:uint8 arrayIndices:|SparseIndexVector
    """,
    "DivOptions": "fusedActivationFunction:int8",
    "DynamicUpdateSliceOptions": "",
    "EmbeddingLookupSparseOptions": "combiner:int8",
    "EqualOptions": "",
    "ExpOptions": "",
    "ExpandDimsOptions": "",
    "ExternalBuffer": "id:uint32 group:uint32 offset:uint64 length:uint64 packing:string",
    "ExternalBufferGroup": "name:string",
    "FakeQuantOptions": "min:float32 max:float32 numBits:int32 narrowRange:bool",
    "FillOptions": "",
    "FloorDivOptions": "",
    "FloorModOptions": "",
    "FullyConnectedOptions": """
        fusedActivationFunction:int8 weightsFormat:int8 keepNumDims:bool
        asymmetricQuantizeInputs:bool quantizedBiasType:int8 quantSpec:[uint8]
    """,
    "GatherNdOptions": "",
    "GatherOptions": "axis:int32 batchDims:int32",
    "GeluOptions": "approximate:bool",
    "GreaterEqualOptions": "",
    "GreaterOptions": "",
    "HardSwishOptions": "",
    "HashtableFindOptions": "",
    "HashtableImportOptions": "",
    "HashtableOptions": "tableId:int32 keyDtype:int8 valueDtype:int8",
    "HashtableSizeOptions": "",
    "IfOptions": "thenSubgraphIndex:int32 elseSubgraphIndex:int32",
    "Int32Vector": "values:[int32]",
    "L2NormOptions": "fusedActivationFunction:int8",
    "LSHProjectionOptions": "type:int8",
    "LSTMOptions": """
        fusedActivationFunction:int8 cellClip:float32 projClip:float32 kernelType:int8
        asymmetricQuantizeInputs:bool
    """,
    "LeakyReluOptions": "alpha:float32",
    "LessEqualOptions": "",
    "LessOptions": "",
    "LocalResponseNormalizationOptions": "radius:int32 bias:float32 alpha:float32 beta:float32",
    "LogSoftmaxOptions": "",
    "LogicalAndOptions": "",
    "LogicalNotOptions": "",
    "LogicalOrOptions": "",
    "MatrixDiagOptions": "",
    "MatrixSetDiagOptions": "",
    "MaximumMinimumOptions": "",
    "Metadata": "name:string buffer:uint32",
    "MirrorPadOptions": "mode:int8",
    "Model": """
        version:uint32 operatorCodes:[OperatorCode] subgraphs:[SubGraph] description:string
        buffers:[Buffer] metadataBuffer:[int32] metadata:[Metadata]
        signatureDefs:[SignatureDef] externalBufferGroups:[ExternalBufferGroup]
        externalBuffers:[ExternalBuffer]
    """,
    "MulOptions": "fusedActivationFunction:int8",
    "MultiAxisQuantization": """
        scales:int32 zeroPoints:int32 blockSize:int32 quantizedDimensions:[int32]
    """,
    "NegOptions": "",
    "NonMaxSuppressionV4Options": "",
    "NonMaxSuppressionV5Options": "",
    "NotEqualOptions": "",
    "OneHotOptions": "axis:int32",
    "Operator": """
        opcodeIndex:uint32 inputs:[int32] outputs:[int32] builtinOptionsType:uint8
        builtinOptions:|BuiltinOptions customOptions:[uint8] customOptionsFormat:int8
        mutatingVariableInputs:[bool] intermediates:[int32] largeCustomOptionsOffset:uint64
        largeCustomOptionsSize:uint64 builtinOptions2Type:uint8
        builtinOptions2:|BuiltinOptions2 debugMetadataIndex:int32=-1
    """,
    "OperatorCode": """
        deprecatedBuiltinCode:int8 customCode:string version:int32=1 builtinCode:int32
    """,
    "PackOptions": "valuesCount:int32 axis:int32",
    "PadOptions": "",
    "PadV2Options": "",
    "Pool2DOptions": """
        padding:int8 strideW:int32 strideH:int32 filterWidth:int32 filterHeight:int32
        fusedActivationFunction:int8
    """,
    "PowOptions": "",
    "QuantizationParameters": """
        min:[float32] max:[float32] scale:[float32] zeroPoint:[int64] detailsType:uint8
        details:|QuantizationDetails quantizedDimension:int32
    """,
    "QuantizeOptions": "",
    "RNNOptions": "fusedActivationFunction:int8 asymmetricQuantizeInputs:bool",
    "RandomOptions": "seed:int64 seed2:int64",
    "RangeOptions": "",
    "RankOptions": "",
    "ReadVariableOptions": "",
    "ReduceWindowOptions": "reduceFunction:int32",
    "ReducerOptions": "keepDims:bool",
    "ReshapeOptions": "newShape:[int32]",
    "ResizeBilinearOptions": "- - alignCorners:bool halfPixelCenters:bool",
    "ResizeNearestNeighborOptions": "alignCorners:bool halfPixelCenters:bool",
    "ReverseSequenceOptions": "seqDim:int32 batchDim:int32",
    "ReverseV2Options": "",
    "Rfft2dOptions": "",
    "RightShiftOptions": "",
    "SVDFOptions": "rank:int32 fusedActivationFunction:int8 asymmetricQuantizeInputs:bool",
    "ScatterNdOptions": "",
    "SegmentSumOptions": "",
    "SelectOptions": "",
    "SelectV2Options": "",
    "SequenceRNNOptions": """
        timeMajor:bool fusedActivationFunction:int8 asymmetricQuantizeInputs:bool
    """,
    "ShapeOptions": "outType:int8",
    "SignOptions": "",
    "SignatureDef": """
        inputs:[TensorMap] outputs:[TensorMap] signatureKey:string - subgraphIndex:uint32
    """,
    "SkipGramOptions": "ngramSize:int32 maxSkipSize:int32 includeAllNgrams:bool",
    "SliceOptions": "",
    "SoftmaxOptions": "beta:float32",
    "SpaceToBatchNDOptions": "",
    "SpaceToDepthOptions": "blockSize:int32",
    "SparseToDenseOptions": "validateIndices:bool",
    "SparsityParameters": "traversalOrder:[int32] blockMap:[int32] dimMetadata:[DimensionMetadata]",
    "SplitOptions": "numSplits:int32",
    "SplitVOptions": "numSplits:int32",
    "SquareOptions": "",
    "SquaredDifferenceOptions": "",
    "SqueezeOptions": "squeezeDims:[int32]",
    "StableHLOCompositeOptions": """
        name:string decompositionSubgraphIndex:int32 compositeAttributes:[uint8]
        compositeAttributesFormat:int8 version:int32
    """,
    "StablehloBroadcastInDimOptions": "broadcastDimensions:[int64]",
    "StablehloCaseOptions": "branchSubgraphIndices:[int32]",
    "StablehloCompareOptions": "comparisonDirection:uint32 compareType:uint32",
    "StablehloConcatenateOptions": "dimension:int64",
    "StablehloConvolutionOptions": """
        windowStrides:[int64] padding:[int64] lhsDilation:[int64] rhsDilation:[int64]
        windowReversal:[bool] inputBatchDimension:int64 inputFeatureDimension:int64
        inputSpatialDimensions:[int64] kernelInputFeatureDimension:int64
        kernelOutputFeatureDimension:int64 kernelSpatialDimensions:[int64]
        outputBatchDimension:int64 outputFeatureDimension:int64 outputSpatialDimensions:[int64]
        featureGroupCount:int64 batchGroupCount:int64 precisionConfig:[uint32]
    """,
    "StablehloCustomCallOptions": """
        callTargetName:string hasSideEffect:bool backendConfig:string apiVersion:int32
        calledComputations:[int32] customAttributes:[uint8]
    """,
    "StablehloDotGeneralOptions": """
        lhsBatchingDimensions:[int64] rhsBatchingDimensions:[int64]
        lhsContractingDimensions:[int64] rhsContractingDimensions:[int64]
        precisionConfig:[uint32]
    """,
    "StablehloDynamicSliceOptions": "sliceSizes:[int64]",
    "StablehloGatherOptions": """
        offsetDims:[int64] collapsedSliceDims:[int64] startIndexMap:[int64]
        indexVectorDim:int64 sliceSizes:[int64] indicesAreSorted:bool
    """,
    "StablehloIotaOptions": "iotaDimension:int64",
    "StablehloPadOptions": "edgePaddingLow:[int64] edgePaddingHigh:[int64] interiorPadding:[int64]",
    "StablehloReduceOptions": "dimensions:[int64] bodySubgraphIndex:int32",
    "StablehloReduceWindowOptions": """
        windowDimensions:[int64] windowStrides:[int64] baseDilations:[int64]
        windowDilations:[int64] padding:[int64] bodySubgraphIndex:int32
    """,
    "StablehloRngBitGeneratorOptions": "algorithm:int8",
    "StablehloScatterOptions": """
        indicesAreSorted:bool updateWindowDims:[int64] insertedWindowDims:[int64]
        scatterDimsToOperandDims:[int64] indexVectorDim:int64 uniqueIndices:bool
        updateComputationSubgraphIndex:int32
    """,
    "StablehloShiftLeftOptions": "",
    "StablehloSliceOptions": "startIndices:[int64] limitIndices:[int64] strides:[int64]",
    "StablehloSortOptions": "dimension:int64 isStable:bool comparatorSubgraphIndex:int32",
    "StablehloTransposeOptions": "permutation:[int64]",
    "StablehloWhileOptions": "condSubgraphIndex:int32 bodySubgraphIndex:int32",
    "StridedSliceOptions": """
        beginMask:int32 endMask:int32 ellipsisMask:int32 newAxisMask:int32 shrinkAxisMask:int32
        offset:bool
    """,
    "SubGraph": """
        tensors:[Tensor] inputs:[int32] outputs:[int32] operators:[Operator] name:string
        debugMetadataIndex:int32=-1
    """,
    "SubOptions": "fusedActivationFunction:int8 potScaleInt16:bool=1",
    "Tensor": """
        shape:[int32] type:int8 buffer:uint32 name:string quantization:QuantizationParameters
        isVariable:bool sparsity:SparsityParameters shapeSignature:[int32] hasRank:bool
        variantTensors:[VariantSubType] externalBuffer:uint32
    """,
    "TensorMap": "name:string tensorIndex:uint32",
    "TileOptions": "",
    "TopKV2Options": "",
    "TransposeConvOptions": """
        padding:int8 strideW:int32 strideH:int32 fusedActivationFunction:int8
        quantizedBiasType:int8
    """,
    "TransposeOptions": "",
    "Uint16Vector": "values:[uint16]",
    "Uint8Vector": "values:[uint8]",
    "UnidirectionalSequenceLSTMOptions": """
        fusedActivationFunction:int8 cellClip:float32 projClip:float32 timeMajor:bool
        asymmetricQuantizeInputs:bool diagonalRecurrentTensors:bool
    """,
    "UniqueOptions": "idxOutType:int8=2",
    "UnpackOptions": "num:int32 axis:int32",
    "UnsortedSegmentMaxOptions": "",
    "UnsortedSegmentMinOptions": "",
    "UnsortedSegmentProdOptions": "",
    "UnsortedSegmentSumOptions": "",
    "VarHandleOptions": "container:string sharedName:string",
    "VariantSubType": "shape:[int32] type:int8 hasRank:bool",
    "WhereOptions": "",
    "WhileOptions": "condSubgraphIndex:int32 bodySubgraphIndex:int32",
    "ZerosLikeOptions": "",
}

ENUMS: dict[str, str] = {
    "ActivationFunctionType": "NONE RELU RELU_N1_TO_1 RELU6 TANH SIGN_BIT",
    "BuiltinOperator": """
        ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
        EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
        LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU
        RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
        CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
        UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN
        SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN
        EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
        ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN
        TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT
        SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND
        LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD
        RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V
        UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG
        QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4
        NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
        PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL
        COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
        CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS
        RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE
        RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
        UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC
        STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE
        STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION
        STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND
        STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM
        STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
        STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE
        STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD
        STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT
        STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR
        REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
    """,
    "BuiltinOptions": """
        NONE Conv2DOptions DepthwiseConv2DOptions ConcatEmbeddingsOptions LSHProjectionOptions
        Pool2DOptions SVDFOptions RNNOptions FullyConnectedOptions SoftmaxOptions
        ConcatenationOptions AddOptions L2NormOptions LocalResponseNormalizationOptions
        LSTMOptions ResizeBilinearOptions CallOptions ReshapeOptions SkipGramOptions
        SpaceToDepthOptions EmbeddingLookupSparseOptions MulOptions PadOptions GatherOptions
        BatchToSpaceNDOptions SpaceToBatchNDOptions TransposeOptions ReducerOptions SubOptions
        DivOptions SqueezeOptions SequenceRNNOptions StridedSliceOptions ExpOptions
        TopKV2Options SplitOptions LogSoftmaxOptions CastOptions DequantizeOptions
        MaximumMinimumOptions ArgMaxOptions LessOptions NegOptions PadV2Options GreaterOptions
        GreaterEqualOptions LessEqualOptions SelectOptions SliceOptions TransposeConvOptions
        SparseToDenseOptions TileOptions ExpandDimsOptions EqualOptions NotEqualOptions
        ShapeOptions PowOptions ArgMinOptions FakeQuantOptions PackOptions LogicalOrOptions
        OneHotOptions LogicalAndOptions LogicalNotOptions UnpackOptions FloorDivOptions
        SquareOptions ZerosLikeOptions FillOptions BidirectionalSequenceLSTMOptions
        BidirectionalSequenceRNNOptions UnidirectionalSequenceLSTMOptions FloorModOptions
        RangeOptions ResizeNearestNeighborOptions LeakyReluOptions SquaredDifferenceOptions
        MirrorPadOptions AbsOptions SplitVOptions UniqueOptions ReverseV2Options AddNOptions
        GatherNdOptions CosOptions WhereOptions RankOptions ReverseSequenceOptions
        MatrixDiagOptions QuantizeOptions MatrixSetDiagOptions HardSwishOptions IfOptions
        WhileOptions DepthToSpaceOptions NonMaxSuppressionV4Options NonMaxSuppressionV5Options
        ScatterNdOptions SelectV2Options DensifyOptions SegmentSumOptions BatchMatMulOptions
        CumsumOptions CallOnceOptions BroadcastToOptions Rfft2dOptions Conv3DOptions
        HashtableOptions HashtableFindOptions HashtableImportOptions HashtableSizeOptions
        VarHandleOptions ReadVariableOptions AssignVariableOptions RandomOptions
        BucketizeOptions GeluOptions DynamicUpdateSliceOptions UnsortedSegmentProdOptions
        UnsortedSegmentMaxOptions UnsortedSegmentMinOptions UnsortedSegmentSumOptions
        ATan2Options SignOptions BitcastOptions BitwiseXorOptions RightShiftOptions
    """,
    "BuiltinOptions2": """
        NONE StablehloConcatenateOptions StablehloBroadcastInDimOptions StablehloSliceOptions
        StablehloConvolutionOptions StablehloCustomCallOptions StablehloReduceOptions
        StablehloScatterOptions StablehloCompareOptions StablehloDynamicSliceOptions
        StablehloPadOptions StablehloIotaOptions StablehloDotGeneralOptions
        StablehloReduceWindowOptions StablehloSortOptions StablehloWhileOptions
        StablehloGatherOptions StablehloTransposeOptions DilateOptions
        StablehloRngBitGeneratorOptions ReduceWindowOptions StableHLOCompositeOptions
        StablehloShiftLeftOptions StablehloCaseOptions
    """,
    "CombinerType": "SUM MEAN SQRTN",
    "CustomOptionsFormat": "FLEXBUFFERS",
    "DimensionType": "DENSE SPARSE_CSR",
    "FullyConnectedOptionsWeightsFormat": "DEFAULT SHUFFLED4x16INT8",
    "LSHProjectionType": "UNKNOWN SPARSE DENSE",
    "LSTMKernelType": "FULL BASIC",
    "MirrorPadMode": "REFLECT SYMMETRIC",
    "Padding": "SAME VALID",
    "QuantizationDetails": "NONE CustomQuantization BlockwiseQuantization MultiAxisQuantization",
    "ReduceWindowFunction": "UNSUPPORTED ADD MUL MINIMUM MAXIMUM ALL ANY",
    "RngAlgorithm": "DEFAULT PHILOX THREEFRY",
    "SparseIndexVector": "NONE Int32Vector Uint16Vector Uint8Vector",
    "StablehloComparisonDirection": """
        STABLEHLO_COMPARISON_DIRECTION_EQ STABLEHLO_COMPARISON_DIRECTION_NE
        STABLEHLO_COMPARISON_DIRECTION_GE STABLEHLO_COMPARISON_DIRECTION_GT
        STABLEHLO_COMPARISON_DIRECTION_LE STABLEHLO_COMPARISON_DIRECTION_LT
    """,
    "StablehloComparisonType": """
        STABLEHLO_COMPARISON_TYPE_NOTYPE STABLEHLO_COMPARISON_TYPE_FLOAT
        STABLEHLO_COMPARISON_TYPE_FLOAT_TOTAL_ORDER STABLEHLO_COMPARISON_TYPE_SIGNED
        STABLEHLO_COMPARISON_TYPE_UNSIGNED
    """,
    "StablehloPrecisionConfig": "DEFAULT HIGH HIGHEST",
    "TensorType": """
        FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128
        UINT64 RESOURCE VARIANT UINT32 UINT16 INT4 BFLOAT16 INT2 UINT4 FLOAT8_E4M3FN
        FLOAT8_E5M2
    """,
}
